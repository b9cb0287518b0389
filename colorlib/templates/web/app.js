// The page: takes a photo and a temperature, shows what worker.js paints, saves it.
"use strict";
const [view, progress, said, file, compare, temperature] = [
  "view", "progress", "said", "file", "compare", "temperature",
].map((id) => document.getElementById(id));
const buttons = document.querySelectorAll("button");
let worker, stem, timer;

function say(words, bad = false) {
  said.textContent = words;
  said.classList.toggle("bad", bad);
}

/** Show how far the work is, from 0 to 1; nothing: it is done. */
function busy(share) {
  progress.hidden = share === undefined;
  if (share) progress.value = share;
  else progress.removeAttribute("value");
  for (const button of buttons) button.disabled = share !== undefined;
}

function take(photo) {
  if (!photo || !worker) return;
  say("Reading the photo");
  busy(0);
  worker.postMessage({ photo });
}

const answers = {
  size([width, height, title]) {
    stem = title.replace(/\.[^.]*$/, "");
    document.body.classList.add("open");
    for (const hidden of document.querySelectorAll("main [hidden]:not(progress)")) hidden.hidden = false;
    view.style.setProperty("--shape", width / height);
    view.style.setProperty("--wide", width);
  },
  done([words, share]) {
    say(words);
    busy(share);
  },
  saved(blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${stem}-coloured.${blob.type === "image/png" ? "png" : "jpg"}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  },
  error([words, ready]) {
    busy();
    say(words, true);
    for (const button of buttons) button.disabled = !ready;
  },
};

function start() {
  if (location.protocol === "file:") {
    return say("A browser runs this page from a server only: python -m http.server -d build/web, then http://localhost:8000", true);
  }
  const canvases = [...document.querySelectorAll("canvas")];
  if (typeof WebAssembly !== "object" || !canvases[0].transferControlToOffscreen) {
    return say("This browser is too old: it has no WebAssembly or no OffscreenCanvas.", true);
  }
  // From a blob, so that this page's Content-Security-Policy holds in the worker too
  const source = `import ${JSON.stringify(new URL("worker.js", location.href))};`;
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  worker = new Worker(address, { type: "module" });
  worker.onerror = () => answers.error(["The painter does not start: is every file of build/web there?"]);
  worker.onmessage = ({ data }) => {
    for (const [kind, value] of Object.entries(data)) answers[kind](value);
  };
  const given = canvases.map((canvas) => canvas.transferControlToOffscreen());
  worker.postMessage({ canvases: given }, given);
  say("");
}

file.addEventListener("change", () => {
  take(file.files[0]);
  file.value = ""; // the same photo may be chosen again
});
addEventListener("paste", (event) => take(event.clipboardData.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
compare.addEventListener("input", () => {
  view.style.setProperty("--at", `${compare.value}%`);
  compare.setAttribute("aria-valuetext", `${100 - compare.value} % coloured`);
});
temperature.addEventListener("input", () => {
  document.getElementById("degree").value = Number(temperature.value).toFixed(2);
  clearTimeout(timer);
  timer = setTimeout(() => worker.postMessage({ temperature: Number(temperature.value) }), 150);
});
for (const button of buttons) {
  button.addEventListener("click", () => worker.postMessage({ save: button.dataset.type }));
}
start();
