// A report's page becomes slides: no code, and on each slide what fits, as measured here
const [WIDTH, HEIGHT, LEAST] = [1280, 720, 0.8]; // a figure that would be drawn smaller than LEAST gets a slide of its own
const LEFT_OUT = ["Parameters", "Setup"];
const HEADING = "h1, h2, h3, h4, h5, h6", VISUAL = "figure, .shown, table, .printed, p:has(> img)";
const slides = document.createElement("div");
let stack, slide;

// Each heading with its pictures, tables and prose, but for prose that only explains code
function groupsOf(main) {
  let group = { parts: [] }, texts = [], code = false;
  const groups = [];
  const end = () => {
    if (!code || !group.parts.length || texts.some(text => text.matches(".equation"))) group.parts.push(...texts);
    [texts, code] = [[], false];
  };
  for (const part of main.children) {
    if (part.matches(HEADING)) {
      end();
      groups.push(group = { heading: part, parts: [] });
    } else if (part.matches(".code, .highlight")) code = true;
    else if (part.matches(VISUAL)) {
      code = false;
      end();
      if (part.textContent.split("\n").length < 10 || !part.matches(".printed")) group.parts.push(part);
    } else if (!part.matches("details, script")) {
      if (code) end();
      texts.push(part);
    }
  }
  end();
  return groups;
}

function open(heading) {
  const number = heading.id && !document.querySelector(`section[id="${heading.id}"]`) ? { id: heading.id } : {};
  slide = Object.assign(document.createElement("section"), number);
  if (heading.tagName > "H2") slide.append(Object.assign(document.createElement("p"), { className: "above", textContent: stack.title }));
  slide.append(heading.cloneNode(true));
  slide.lastChild.removeAttribute("id");
  stack.append(slide);
}

const room = () => HEIGHT - 40 - (slide.lastElementChild.getBoundingClientRect().bottom - slide.getBoundingClientRect().top);
const isWide = part => [part, ...part.querySelectorAll("table, .equation")].some(e => e.scrollWidth > e.clientWidth + 1);
const pictureOf = part => part.matches(".shown") ? null : part.querySelector("img");

// Does the slide hold all that is on it? A picture is drawn as large as there is room
function fits(part) {
  const image = pictureOf(part);
  if (!image) return room() >= 0;
  Object.assign(image.style, { width: "0", height: "0" });
  const scale = Math.min(1.3, part.clientWidth / image.naturalWidth, room() / image.naturalHeight);
  Object.assign(image.style, { width: `${Math.floor(scale * image.naturalWidth)}px`, height: "auto" });
  return scale > LEAST;
}

function put(part, heading) {
  const before = slide.lastElementChild, old = slide;
  slide.append(part);
  for (let zoom = 0.95; isWide(part) && zoom > 0.3; zoom -= 0.05) part.style.zoom = zoom;
  if (fits(part)) return;
  if (!before.matches(HEADING)) { // on to the next slide, a picture with the sentence before it
    open(heading);
    if (part.matches(VISUAL) && before.matches("p") && !before.previousElementSibling.matches(HEADING)) {
      slide.append(before, part);
      if (fits(part)) return;
      old.append(before);
      part.remove();
    }
    put(part, heading);
  } else if (!pictureOf(part)) split(part, heading);
}

// A long list or table goes on on the next slide; what cannot be split becomes smaller
function split(part, heading) {
  const lines = whole => whole.matches("ul, ol") ? whole : whole.querySelector("tbody");
  const rest = part.cloneNode(true);
  lines(rest)?.replaceChildren();
  while (lines(part)?.children.length > 1 && !fits(part)) lines(rest).prepend(lines(part).lastElementChild);
  for (let zoom = 0.95; !fits(part) && zoom > 0.3; zoom -= 0.05) part.style.zoom = zoom;
  if (!lines(rest)?.children.length) return;
  if (rest.matches("ol")) rest.start = part.start + part.children.length;
  open(heading);
  put(rest, heading);
}

addEventListener("load", () => {
  const main = document.querySelector("main"), reveal = document.createElement("div");
  const here = new URL(document.querySelector("header a").href.replace(/[^/]*$/, ""));
  for (const extra of main.querySelectorAll(".anchor, li details")) extra.remove();
  for (const link of main.querySelectorAll("a")) { // what is not beside the slides, and a picture's own file
    if (link.querySelector("img") || (link.protocol + link.host === here.protocol + here.host && !link.href.startsWith(here))) link.replaceWith(...link.childNodes);
  }
  const groups = groupsOf(main);
  [slides.className, reveal.className] = ["slides", "reveal stage"];
  reveal.append(slides);
  document.head.append(...document.querySelectorAll("body > div > style"));
  document.body.replaceChildren(reveal);
  for (const { heading, parts } of groups) {
    if (heading.matches("h1, h2")) {
      stack = Object.assign(document.createElement("section"), { title: heading.textContent });
      slides.append(stack);
    }
    if (!parts.length || LEFT_OUT.includes(stack.title)) continue;
    open(heading);
    for (const part of parts) put(part, heading);
  }
  for (const bare of slides.querySelectorAll(`section:has(> :is(${HEADING}) + .printed:last-child)`)) bare.remove();
  for (const empty of slides.querySelectorAll(":scope > section:empty")) empty.remove();
  for (const printed of slides.querySelectorAll("p ~ .printed")) printed.classList.add("fragment"); // predict, then see
  for (const section of slides.children) section.removeAttribute("title");
  reveal.classList.remove("stage");
  const looks = { width: WIDTH, height: HEIGHT, margin: 0, center: false, transition: "none", slideNumber: "c/t" };
  Reveal.initialize({ ...looks, hash: true, navigationMode: "linear", pdfSeparateFragments: false });
});
