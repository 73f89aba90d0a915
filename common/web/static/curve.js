// Draws the learning curve in the place of the still picture, which stays where this cannot run.
import { CONFIG, colour, layout, onScheme } from "./plots.js";

const LOOK = {
  trained: { symbol: "circle", size: 11, words: "promoted before" },
  kept: { symbol: "x", size: 11, words: "kept back" },
  serves: { symbol: "star", size: 17, words: "serves" },
};
const points = JSON.parse(document.getElementById("curve-points").textContent);
const plane = document.getElementById("curve"), still = document.getElementById("curve-still");
const chosen = document.getElementById("curve-of");

// [value, low, high] of what is chosen; a class has no interval, a point may have no value.
function worth(point) {
  return chosen.value in point ? point[chosen.value] : [point.classes[Number(chosen.value)], null, null];
}

function hover(point) {
  const [value, low, high] = worth(point);
  const range = low === null ? "" : `<br>90 % interval ${low.toFixed(3)} to ${high.toFixed(3)}`;
  const verdict = point.kind === "serves" ? "serves" : point.verdict;
  return `${point.name}${verdict ? `, ${verdict}` : ""}<br>${point.labels.toLocaleString("en")} labels<br>`
    + `${chosen.selectedOptions[0].text.replace(/[<>&]/g, " ")} ${value.toFixed(3)}${range}`;
}

function traces() {
  const there = points.filter((p) => typeof worth(p)[0] === "number");
  const line = { x: there.map((p) => p.labels), y: there.map((p) => worth(p)[0]), mode: "lines", hoverinfo: "skip", showlegend: false };
  const bare = { type: "scatter", ...line, line: { color: colour("soft"), width: 1.5, dash: "dot" } };
  return [bare, ...Object.entries(LOOK).map(([kind, look]) => {
    const mine = there.filter((p) => p.kind === kind), ink = colour(`curve-${kind}`), ends = mine.map(worth);
    const bars = { type: "data", symmetric: false, array: ends.map(([v, , high]) => high - v), arrayminus: ends.map(([v, low]) => v - low) };
    return {
      type: "scatter", mode: "markers", name: look.words, x: mine.map((p) => p.labels), y: ends.map(([v]) => v),
      marker: { symbol: look.symbol, size: look.size, color: ink, line: { color: colour("panel"), width: 1 } },
      error_y: { ...bars, visible: ends.some(([, low]) => low !== null), color: ink, thickness: 2, width: 5 },
      text: mine.map(hover), hovertemplate: "%{text}<extra></extra>",
    };
  })];
}

function draw() {
  const grid = { gridcolor: colour("line"), zerolinecolor: colour("line"), fixedrange: true };
  const most = Math.max(1, ...points.map((p) => p.labels));
  const axes = {
    xaxis: { ...grid, title: { text: "labelled images", font: { size: 13 }, standoff: 8 }, range: [0, most * 1.04], tickformat: "," },
    yaxis: { ...grid, range: [0, 1.02], tickformat: ".1f", dtick: 0.2 },
  };
  const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemclick: false, itemdoubleclick: false };
  const margin = { l: 48, r: 16, t: 36, b: 44 };
  const what = chosen.selectedOptions[0].text;
  document.getElementById("curve-what").textContent = `${what}, over labelled images`;
  document.getElementById("curve-bars").hidden = !(chosen.value in points[0]);
  return Plotly.react(plane, traces(), layout({ ...axes, legend, margin, showlegend: true, dragmode: false }), CONFIG);
}

async function begin() {
  plane.hidden = false;
  try {
    await draw();
  } catch (error) {
    plane.hidden = true;
    throw error;
  }
  still.toggleAttribute("hidden", true);
  document.getElementById("curve-legend").hidden = true;
  document.querySelector(".of").hidden = false;
  chosen.addEventListener("change", draw);
  onScheme(draw);
}

begin();
