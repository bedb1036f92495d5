// Of several questions one is shown at a time, until all are asked for; on paper all are.

export function connectQuestions(root) {
  const chooser = root.querySelector("select[name=question]");
  if (!chooser) return;
  const sections = [...root.querySelectorAll(".question-section")];
  const show = () => {
    for (const section of sections) {
      section.classList.toggle("aside", chooser.value !== "all" && section.dataset.place !== chooser.value);
    }
  };
  chooser.closest(".choose").hidden = false;
  chooser.addEventListener("change", show);
  for (const link of root.querySelectorAll("a[data-question]")) {
    link.addEventListener("click", () => {
      chooser.value = link.hash.slice("#question-".length);
      show();
    });
  }
  show();
}
