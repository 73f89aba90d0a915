// Draws the map, tells of the image that is pointed at or walked to, opens it in the platform.
import { CONFIG, colour, layout, onScheme } from "./plots.js";

const LOOK = {
  other: { symbol: "circle", size: 5, opacity: 0.55 },
  labelled: { symbol: "square", size: 8, opacity: 0.9 },
  uncertain: { symbol: "triangle-up", size: 9, opacity: 0.85 },
  queued: { symbol: "diamond", size: 11, opacity: 1 },
};
const PAUSE_MS = 60;
const FORWARD = { ArrowRight: 1, ArrowLeft: -1 }, GROUPWISE = { ArrowDown: 1, ArrowUp: -1 };
const frame = document.getElementById("map"), plane = document.getElementById("plane");
const told = document.getElementById("told"), problem = document.getElementById("map-problem");
const asked = new Map();
let groups = [], at = null, pause = 0;

const onTop = () => Object.keys(LOOK).map((name) => groups.find((g) => g.name === name));
const shown = (g) => g.samples.length && frame.querySelector(`input[value="${g.name}"]`).checked;

function traces() {
  return onTop().map((g) => ({
    type: "scatter", mode: "markers", x: g.x, y: g.y, visible: frame.querySelector(`input[value="${g.name}"]`).checked,
    marker: { ...LOOK[g.name], color: colour(`map-${g.name}`), line: { width: g.name === "other" ? 0 : 1, color: colour("panel") } },
    text: g.samples.map((sample, i) => (g.places[i] ? `place ${g.places[i].toLocaleString("en")}` : g.words)),
    hovertemplate: "%{text}<extra></extra>",
  }));
}

function draw() {
  const free = { visible: false, zeroline: false };
  const axes = { xaxis: free, yaxis: free };
  return Plotly.react(plane, traces(), layout({ ...axes, margin: { l: 4, r: 4, t: 4, b: 4 }, dragmode: "zoom", uirevision: "kept" }), CONFIG);
}

function ask(sample) {
  if (!asked.has(sample)) {
    const answer = fetch(`${frame.dataset.image}?${new URLSearchParams({ sample })}`).then((a) => {
      if (!a.ok) throw new Error(a.statusText);
      return a.text();
    });
    answer.catch(() => asked.delete(sample));
    asked.set(sample, answer);
  }
  return asked.get(sample);
}

async function tell(group, index) {
  at = { group, index };
  told.classList.add("waits");
  try {
    const text = await ask(group.samples[index]);
    if (at.group !== group || at.index !== index) return false;
    told.innerHTML = text;
    const place = group.places[index];
    told.querySelector(".rank").textContent = place ? place.toLocaleString("en") : "";
  } catch {
    told.textContent = "Nothing is known of this image now; the page may be old: load it again.";
  }
  told.classList.remove("waits");
  return true;
}

function open() {
  const link = told.querySelector("h3 a");
  if (link) window.open(link.href, "_blank", "noopener");
}

const pointed = (event) => [onTop()[event.points[0].curveNumber], event.points[0].pointNumber];

function walk(step, groupwise) {
  const there = groups.filter(shown);
  if (!there.length) return;
  let g = at ? there.indexOf(at.group) : -1;
  let index = g < 0 ? 0 : at.index;
  if (groupwise && g >= 0) [g, index] = [(g + step + there.length) % there.length, 0];
  else if (g < 0) g = 0;
  else {
    index += step;
    if (index < 0 || index >= there[g].samples.length) {
      g = (g + step + there.length) % there.length;
      index = step > 0 ? 0 : there[g].samples.length - 1;
    }
  }
  Plotly.Fx.hover(plane, [{ curveNumber: onTop().indexOf(there[g]), pointNumber: index }]);
  tell(there[g], index);
}

function zoom(factor) {
  if (!factor) return Plotly.relayout(plane, { "xaxis.autorange": true, "yaxis.autorange": true });
  const wanted = {};
  for (const name of ["xaxis", "yaxis"]) {
    const [low, high] = plane._fullLayout[name].range;
    const middle = (low + high) / 2, half = ((high - low) / 2) * factor;
    wanted[`${name}.range`] = [middle - half, middle + half];
  }
  return Plotly.relayout(plane, wanted);
}

async function begin() {
  const answer = await fetch(frame.dataset.points, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(answer.statusText);
  const found = await answer.json();
  groups = found.groups;
  for (const g of groups) {
    const label = frame.querySelector(`input[value="${g.name}"]`).closest("label");
    g.words = label.textContent.trim();
    label.querySelector("b").textContent = g.count.toLocaleString("en");
  }
  document.getElementById("drawn").textContent = found.sentence;
  frame.hidden = false;
  await draw();
  document.getElementById("map-still").hidden = true;
  onScheme(draw);
  frame.querySelector(".groups").addEventListener("change", () => Plotly.restyle(plane, { visible: onTop().map((g) => Boolean(shown(g))) }));
  for (const button of frame.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  plane.on("plotly_hover", (event) => {
    clearTimeout(pause);
    pause = setTimeout(() => tell(...pointed(event)), PAUSE_MS);
  });
  plane.on("plotly_unhover", () => clearTimeout(pause));
  plane.on("plotly_click", async (event) => {
    clearTimeout(pause);
    if ((await tell(...pointed(event))) && matchMedia("(hover: hover)").matches) open();
  });
  plane.addEventListener("keydown", (event) => {
    if (event.key === "Enter") open();
    else if (event.key in FORWARD) walk(FORWARD[event.key], false);
    else if (event.key in GROUPWISE) walk(GROUPWISE[event.key], true);
    else return;
    event.preventDefault();
  });
}

begin().catch((error) => {
  frame.hidden = true;
  problem.hidden = false;
  problem.textContent = `The map could not be drawn: ${error.message}. Load the page again.`;
});
