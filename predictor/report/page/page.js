"use strict";
// Draws every figure in the colours of the style sheet, and again when these or the medium change.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const narrow = window.matchMedia("(max-width: 40rem)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const print = window.matchMedia("print");

  // A copy with every var(--name) replaced by what the style sheet says now.
  const coloured = (value, style) => {
    if (typeof value === "string") {
      const found = value.match(/^var\((--[a-z-]+)\)$/);
      return found ? style.getPropertyValue(found[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((each) => coloured(each, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, style)]));
    }
    return value;
  };

  const draw = (plot, printing) => {
    const style = getComputedStyle(document.documentElement);
    const { data, layout } = coloured(figures[plot.id], style);
    layout.font = { ...layout.font, family: getComputedStyle(document.body).fontFamily };
    if (narrow.matches) layout.font.size = 11;
    if (printing) layout.width = 680;
    return Plotly.react(plot, data, layout, { displayModeBar: false, responsive: true });
  };

  const drawAll = (printing = false) =>
    Promise.all(
      plots.map((plot) =>
        draw(plot, printing).then(() => {
          plot.dataset.drawn = "yes";
        }),
      ),
    );

  drawAll().then(() => {
    document.documentElement.dataset.ready = "yes";
  });
  dark.addEventListener("change", () => drawAll(print.matches));
  narrow.addEventListener("change", () => drawAll(print.matches));
  print.addEventListener("change", () => drawAll(print.matches));
})();
