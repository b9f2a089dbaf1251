// Draws the charts of the page in its light or dark look, as wide as there is room.
"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false };
  const albums = JSON.parse(document.getElementById("albums")?.textContent ?? "{}");
  const chosen = {}; // of each album, the image (by its place among the test images) that is ringed in all charts
  const FIRST = 48; // images of a set that are shown at once

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

  // shortened names, numbered where different ones have become the same
  function shortenAll(names, limit) {
    const shown = names.map((name) => shorten(name, limit));
    return names.map((name, index) => {
      const text = shown[index];
      const same = [...new Set(names.filter((_, place) => shown[place] === text))];
      return same.length > 1 ? `${shorten(text, Math.max(text.length - 4, 4))} (${same.indexOf(name) + 1})` : text;
    });
  }

  function axis(names, title, room, narrow, look) {
    const text = escape(shorten(title ?? "", Math.floor(room / 6.5)));
    const shared = { title: { text, standoff: 14 },  gridcolor: look.line, linecolor: look.line, tickcolor: look.line, zeroline: false, automargin: true };
    if (!names) return { ...shared, nticks: narrow ? 5 : 7 };
    const step = Math.max(1, Math.ceil((names.length * 13) / room));
    const shown = names.map((_, index) => index).filter((index) => index % step === 0);
    const all = shortenAll(names, narrow ? 20 : 32);
    const texts = shown.map((index) => escape(all[index]));
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
    const flat = spec.ticks.xaxis && Math.max(...columns.ticktext.map((text) => text.length)) * 7 + 6 < (width - 170) / columns.ticktext.length;
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

  // a ring around the chosen image, where the chart has a point for it
  function ring(spec) {
    const image = spec.images?.linked ? chosen[spec.images.of] : undefined;
    if (image === undefined) return [];
    for (const trace of spec.data) {
      const place = trace.meta.images.indexOf(image);
      if (place < 0) continue;
      const marker = { size: 16, symbol: "circle-open", color: dark.matches ? "#ffffff" : "#000000", line: { width: 3 } };
      return [{ type: "scatter", mode: "markers", x: [trace.x[place]], y: [trace.y[place]], marker, hoverinfo: "skip", showlegend: false }];
    }
    return [];
  }

  function draw(figure) {
    const box = figure.querySelector(".chart");
    if (!box) return; // a gallery
    const spec = resolve(specs[figure.id]);
    const width = Math.min(box.clientWidth, spec.layout.width ?? Infinity);
    Plotly.react(box, [...traces(spec, width), ...ring(spec)], layout(spec, width), config);
    if (!spec.images || box.dataset.listens) return;
    box.dataset.listens = "yes";
    box.on("plotly_click", (event) => clicked(figure, event.points[0]));
  }

  function element(name, text, settings = {}) {
    const made = Object.assign(document.createElement(name), settings);
    if (text) made.textContent = text;
    return made;
  }

  // an image with its class and the answers; a button where charts have a point for it
  function item(album, number, of, linked) {
    const image = album.index[number];
    const label = album.classes[album.labels[number]];
    const answers = album.names.map((name, place) => `${name}: ${album.classes[album.answers[place][number]]}`);
    const picture = element("img", "", { src: album.sources[number], alt: `image ${image} of class ${label}; ${answers.join(", ")}` });
    const wrong = album.names.map((name, place) => [name, album.answers[place][number]]).filter(([, answer]) => answer !== album.labels[number]);
    const lines = [label, ...wrong.slice(0, 4).map(([name, answer]) => `${name}: ${album.classes[answer]}`)];
    if (wrong.length > 4) lines.push(`and ${wrong.length - 4} more`);
    const holder = linked ? element("button", "", { type: "button" }) : element("div");
    if (linked) {
      holder.setAttribute("aria-pressed", String(chosen[of] === image));
      holder.dataset.image = image;
      holder.addEventListener("click", () => choose(of, chosen[of] === image ? undefined : image));
    }
    holder.append(picture, ...lines.map((line) => element("span", line)));
    const li = element("li");
    li.append(holder);
    return li;
  }

  // rings an image in all charts that have a point for it
  function choose(of, image) {
    chosen[of] = image;
    for (const figure of document.querySelectorAll("figure:not([hidden])")) {
      const images = specs[figure.id]?.images;
      if (images?.of !== of) continue;
      if (images.linked) draw(figure);
      for (const button of figure.querySelectorAll(".behind button[data-image]")) {
        button.setAttribute("aria-pressed", String(Number(button.dataset.image) === image));
      }
    }
  }

  const hasPoints = (of) => Object.values(specs).some((spec) => spec.images?.of === of && spec.images.linked);

  function show(figure, label, total, numbers, start = 0) {
    const { of } = specs[figure.id].images;
    const [status, list, more] = ["p", ".gallery", ".more"].map((part) => figure.querySelector(`.behind ${part}`));
    const missing = total - numbers.length;
    if (start === 0) {
      list.replaceChildren();
      const count = `${total} image${total === 1 ? "" : "s"}`;
      status.textContent = label && `${label}: ${count}${missing ? `, of which ${numbers.length} are in this page` : ""}`;
    }
    const linked = hasPoints(of);
    list.append(...numbers.slice(start, start + FIRST).map((number) => item(albums[of], number, of, linked)));
    more.hidden = start + FIRST >= numbers.length;
    more.onclick = () => show(figure, label, total, numbers, start + FIRST);
  }

  function clicked(figure, point) {
    const { meta } = point.data;
    const { of, sets } = specs[figure.id].images;
    if (meta?.images) {
      const image = meta.images[point.pointNumber];
      const number = albums[of].index.indexOf(image);
      choose(of, image);
      show(figure, `image ${image}`, 1, number < 0 ? [] : [number]);
      return;
    }
    const place = [point.pointNumber].flat().reduce((rows, index) => rows?.[index], meta?.sets);
    if (!(place >= 0)) return show(figure, "no image there", 0, []);
    const select = figure.querySelector(".behind select");
    select.value = place;
    show(figure, sets[place][1], sets[place][2], sets[place][3]);
  }

  // lists the sets of images, so that none needs a pointer
  for (const select of document.querySelectorAll(".behind select")) {
    const figure = select.closest("figure");
    const groups = new Map();
    specs[figure.id].images.sets.forEach(([group, label, total], place) => {
      if (!groups.has(group)) groups.set(group, element("optgroup", "", { label: group }));
      groups.get(group).append(element("option", `${label} (${total})`, { value: place }));
    });
    select.append(...groups.values());
    select.addEventListener("change", () => {
      const [, label, total, numbers] = specs[figure.id].images.sets[select.value] ?? ["", "", 0, []];
      show(figure, label, total, numbers);
    });
  }

  const drawShown = () => document.querySelectorAll("figure:not([hidden])").forEach(draw);

  for (const select of document.querySelectorAll(".chosen > .choose select")) {
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
