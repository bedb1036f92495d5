// Whether the text is on the clipboard; pages from a disk may be refused it.
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
