// Colours: of names, and those of the style sheet that the canvas needs too.

const theme = {};
let fills = [];       // by name
let eventFills = [];
let inkOf = "#000";

function hueOf(text) {
  let hash = 2166136261;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  return ((hash >>> 0) % 360 + 360) % 360;
}

function isDark() {
  return document.documentElement.dataset.theme === "dark";
}

function fillOf(text) {
  const hue = hueOf(text);
  const light = hue > 40 && hue < 190 ? [70, 34] : [76, 42]; // greens look lighter
  return isDark() ? `hsl(${hue} 42% ${light[1]}%)` : `hsl(${hue} 58% ${light[0]}%)`;
}

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["page", "panel", "line", "text", "soft", "accent", "bad", "band", "over"]) {
    theme[name] = style.getPropertyValue("--" + name).trim();
  }
  fills = head.names.map(fillOf);
  eventFills = head.events.map(fillOf);
  inkOf = isDark() ? "#f2f4f8" : "#14171c";
}

function startTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const choose = (name) => {
    document.documentElement.dataset.theme = name;
    readTheme();
    redraw();
    if (shownTab === "flame") showFlame();
  };
  document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  readTheme();
  dark.addEventListener("change", () => choose(dark.matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => choose(isDark() ? "light" : "dark"));
  let before = null; // while it is printed: what it was
  const print = () => {
    if (before !== null) return;
    before = document.documentElement.dataset.theme;
    choose("light");
    drawNow(); // now: the paper does not wait for a frame
  };
  const goOn = () => {
    if (before !== null) choose(before);
    before = null;
  };
  addEventListener("beforeprint", print);
  addEventListener("afterprint", goOn);
  matchMedia("print").addEventListener("change", (event) => (event.matches ? print() : goOn()));
}
