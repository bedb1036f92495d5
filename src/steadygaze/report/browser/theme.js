// Light or dark by the system's wish, until the button says otherwise.
export function connectTheme() {
  const button = document.querySelector("button[name=theme]");
  if (!button) return;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  button.hidden = false;
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    document.dispatchEvent(new Event("theme"));
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  dark.addEventListener("change", show);
  show();
}
