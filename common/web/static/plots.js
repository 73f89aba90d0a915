// What the plots share: colours of the page, and a library that stays with us and shows no bar of its own.

export const CONFIG = {
  displayModeBar: false, displaylogo: false, showSendToCloud: false, showEditInChartStudio: false, showLink: false,
  plotlyServerURL: "", responsive: true,
};

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function layout(more) {
  const text = { color: colour("soft"), family: getComputedStyle(document.body).fontFamily, size: 13 };
  return {
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: text, showlegend: false, hovermode: "closest",
    hoverlabel: { align: "left", bgcolor: colour("panel"), bordercolor: colour("soft"), font: { ...text, color: colour("text") } },
    ...more,
  };
}

// Draws again whenever the reader's system goes from light to dark or back.
export function onScheme(draw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
