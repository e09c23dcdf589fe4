// A place to drop a file on, with a button for those who do not drag.

import { h } from "./dom.js";

/** A drop zone; `onFile` gets the file. */
export function fileDrop(label, onFile) {
  const input = h("input", { type: "file", class: "unseen", accept: ".jsonl,.json,.csv,.parquet,.tsv,.gz,.zst" });
  const give = (file) => {
    if (!file) return;
    said.textContent = file.name;
    onFile(file);
  };
  input.addEventListener("change", () => {
    give(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  const said = h("span", { class: "soft" }, "JSON lines, JSON, CSV or Parquet, with prompts and responses");
  const zone = h("label", { class: "drop" }, input, h("strong", {}, label), h("span", { class: "button" }, "Choose a file"), said);
  const over = (event) => {
    event.preventDefault();
    zone.classList.toggle("over", event.type === "dragover");
  };
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", over);
  zone.addEventListener("drop", (event) => {
    over(event);
    give(event.dataTransfer.files[0]);
  });
  return zone;
}
