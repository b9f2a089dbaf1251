// Draws the charts of the page in its light or dark look, as wide as there is room.
"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false };

  const isThemed = (value) => value !== null && typeof value === "object" && "light" in value && "dark" in value;

  function resolve(value) {
    if (isThemed(value)) return value[dark.matches ? "dark" : "light"];
    if (Array.isArray(value)) return value.map(resolve);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item)]));
  }

  const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function shorten(name, limit) {
    if (name.length <= limit) return name;
    const head = Math.floor((limit - 1) / 2);
    return name.slice(0, head) + "…" + name.slice(name.length - (limit - 1 - head));
  }

  function axis(names, title, room, narrow, look) {
    const text = escape(shorten(title ?? "", Math.floor(room / 6.5)));
    const shared = { title: { text, standoff: 14 },  gridcolor: look.line, linecolor: look.line, tickcolor: look.line, zeroline: false, automargin: true };
    if (!names) return { ...shared, nticks: narrow ? 5 : 7 };
    const step = Math.max(1, Math.ceil((names.length * 13) / room));
    const shown = names.map((_, index) => index).filter((index) => index % step === 0);
    const texts = shown.map((index) => escape(shorten(names[index], narrow ? 20 : 32)));
    return { ...shared, showgrid: false, tickmode: "array", tickvals: shown, ticktext: texts, ticks: "" };
  }

  function merge(base, extra) {
    const both = { ...base };
    for (const [key, value] of Object.entries(extra)) {
      const nested = value !== null && typeof value === "object" && !Array.isArray(value) && key in base;
      both[key] = nested ? merge(base[key], value) : value;
    }
    return both;
  }

  function layout(spec, width) {
    const css = getComputedStyle(document.documentElement);
    const look = { ink: css.getPropertyValue("--ink").trim(), line: css.getPropertyValue("--line").trim(), card: css.getPropertyValue("--card").trim() };
    const narrow = width < 520;
    const named = spec.data[0].type === "heatmap" ? 0 : 110 + 14 * (spec.ticks.yaxis ?? []).length; // a line for each row
    const height = Math.min(spec.layout.height, narrow ? Math.max(width * 1.15 + 60, named) : Infinity);
    const columns = axis(spec.ticks.xaxis, spec.titles.xaxis, width - 130, narrow, look);
    const flat = spec.ticks.xaxis && Math.max(...columns.ticktext.map((text) => text.length)) * 7 < (width - 170) / columns.ticktext.length;
    if (spec.ticks.xaxis) columns.tickangle = flat ? 0 : -90;
    const base = {
      font: { family: css.fontFamily, size: narrow ? 10.5 : 12, color: look.ink },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 12, r: 12, t: 26, b: 12 },
      showlegend: spec.data.some((trace) => trace.showlegend === true),
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
      hoverlabel: { bgcolor: look.card, bordercolor: look.line, font: { color: look.ink }, align: "left" },
      hovermode: "closest",
      dragmode: false,
      xaxis: { ...columns, fixedrange: true },
      yaxis: { ...axis(spec.ticks.yaxis, spec.titles.yaxis, height - 110, narrow, look), fixedrange: true },
    };
    return merge(base, { ...spec.layout, width, height });
  }

  function traces(spec, width) {
    if (width >= 520) return spec.data;
    return spec.data.map((trace) => (trace.colorbar ? { ...trace, colorbar: { ...trace.colorbar, thickness: 8, tickfont: { size: 9 } } } : trace));
  }

  function draw(figure) {
    const box = figure.querySelector(".chart");
    if (!box) return; // a gallery
    const spec = resolve(specs[figure.id]);
    const width = Math.min(box.clientWidth, spec.layout.width ?? Infinity);
    Plotly.react(box, traces(spec, width), layout(spec, width), config);
  }

  const drawShown = () => document.querySelectorAll("figure:not([hidden])").forEach(draw);

  for (const select of document.querySelectorAll(".chosen select")) {
    select.addEventListener("change", () => {
      for (const figure of select.closest(".chosen").querySelectorAll("figure")) {
        figure.hidden = figure.id !== select.value;
        if (!figure.hidden) draw(figure);
      }
    });
  }

  // a link to a chart that is not the chosen one chooses it
  function reveal() {
    const figure = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!figure?.hidden) return;
    const select = figure.closest(".chosen").querySelector("select");
    select.value = figure.id;
    select.dispatchEvent(new Event("change"));
    figure.scrollIntoView();
  }
  addEventListener("hashchange", reveal);

  let waiting = 0;
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(drawShown);
  });
  dark.addEventListener("change", drawShown);
  drawShown();
  reveal();
})();
