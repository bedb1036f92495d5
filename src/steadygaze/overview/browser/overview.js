// The entry: takes the data out of the page and brings curves and table to life; without it the page can be read.

import { CaseTable } from "./cases.js";
import { connectCurves } from "./curves.js";
import { connectQuestions } from "./questions.js";
import { inflated } from "../../report/browser/data.js";
import { connectTheme } from "../../report/browser/theme.js";

connectTheme();
if (typeof DecompressionStream === "function") begin(await unpacked());

async function unpacked() {
  const text = document.getElementById("data").textContent.trim();
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(await inflated(bytes)));
}

function begin({ cases, curves }) {
  document.documentElement.classList.add("alive");
  for (const figure of document.querySelectorAll(".chart")) connectCurves(figure, curves);
  connectQuestions(document);
  new CaseTable(document.getElementById("table"), cases);
  document.getElementById("cases").dataset.ready = "true";
}
