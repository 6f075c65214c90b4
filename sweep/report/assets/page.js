(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const palettes = [
    ["#005aa0", "#d55e00", "#00825f", "#b45a8c", "#786400", "#3c96d2", "#5a5a5a", "#c88c00"],
    ["#5fb0f0", "#ff9a52", "#3fc796", "#e69ac4", "#cdb94f", "#9fd4ff", "#b4b4b4", "#ffc84a"],
  ];
  const dashes = [[], [8, 4], [3, 3], [10, 3, 3, 3], [1, 4]];
  const hidden = new Set();
  let plots = [];

  const color = (cell) => palettes[dark.matches ? 1 : 0][cell % 8];
  const dash = (cell) => dashes[Math.floor(cell / 8) % dashes.length];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const element = (tag, parent, text) => {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (parent) parent.append(e);
    return e;
  };
  const short = (v) => {
    if (v === 0) return "0";
    const a = Math.abs(v);
    if (a < 1e-3) return v.toExponential(1).replace(".0e", "e");
    for (const [size, unit] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (a >= size) return +(v / size).toPrecision(4) + unit;
    return String(+v.toPrecision(5));
  };

  // place is where a line's point stands on the chosen axis.
  const place = (line, i, axis) => {
    const cell = data.cells[line.cell];
    switch (axis) {
      case "tokens": return line.s[i] * cell.tokens;
      case "seconds": return line.t[i];
      case "flops": return line.s[i] * cell.flops;
    }
    return line.s[i];
  };

  // points are what is drawn of a line: [x, y] with rising x.
  const points = (line, o) => {
    const out = [];
    const n = line.s.length;
    const from = o.from > 0 && n ? place(line, n - 1, o.axis) * o.from : -Infinity;
    for (let i = 0; i < n; i++) {
      const x = place(line, i, o.axis), y = line.v[i];
      if (y === null || x === null || x < from || (o.logx && x <= 0) || (o.logy && y <= 0)) continue;
      if (out.length && x <= out[out.length - 1][0]) continue;
      out.push([x, y]);
    }
    return out;
  };

  const options = () => ({
    axis: byId("axis").value, seeds: byId("seeds").checked, from: +byId("from").value, logx: byId("logx").checked, logy: byId("logy").checked,
  });

  // align puts lines on the union of their x. Undefined is a point that a line does not have: it goes on over it.
  const align = (lines) => {
    const xs = [...new Set(lines.flatMap((l) => l.points.map((p) => p[0])))].sort((a, b) => a - b);
    const at = new Map(xs.map((x, i) => [x, i]));
    return [xs, ...lines.map((l) => {
      const ys = new Array(xs.length);
      for (const [x, y] of l.points) ys[at.get(x)] = y;
      return ys;
    })];
  };

  const tooltip = (figure, lines, o) => {
    const tip = element("div");
    tip.className = "tip";
    tip.hidden = true;
    return {
      hooks: {
        init: (u) => u.over.append(tip),
        setCursor: (u) => {
          const { left, top } = u.cursor;
          tip.hidden = left < 0;
          if (tip.hidden) return;
          const x = u.posToVal(left, "x");
          const rows = [];
          for (const l of lines) {
            if (l.seed !== undefined || !l.points.length) continue;
            let best = l.points[0];
            for (const p of l.points) if (Math.abs(p[0] - x) < Math.abs(best[0] - x)) best = p;
            if (x <= l.points[l.points.length - 1][0] * 1.02) rows.push([best[1], l.cell]);
          }
          rows.sort((a, b) => a[0] - b[0]);
          tip.replaceChildren();
          element("div", tip, byId("axis").selectedOptions[0].text + " " + short(x));
          for (const [y, cell] of rows.slice(0, 12)) {
            const row = element("div", tip);
            const name = element("span", row, data.cells[cell].name);
            name.className = "name";
            name.style.color = color(cell);
            element("span", row, y.toPrecision(5));
          }
          if (rows.length > 12) element("div", tip, rows.length - 12 + " more");
          const w = tip.offsetWidth, h = tip.offsetHeight;
          tip.style.left = (left + 14 + w > u.over.clientWidth ? Math.max(0, left - 14 - w) : left + 14) + "px";
          tip.style.top = Math.max(0, Math.min(top - h / 2, u.over.clientHeight - h)) + "px";
        },
      },
    };
  };

  const draw = (figure, chart) => {
    const o = options();
    const lines = chart.lines
      .filter((l) => !hidden.has(l.cell) && (l.seed === undefined || o.seeds))
      .sort((a, b) => (a.seed === undefined) - (b.seed === undefined)) // means above
      .map((l) => ({ cell: l.cell, seed: l.seed, failed: l.failed, points: points(l, o) }));
    const series = lines.map((l) => {
      const thin = l.seed !== undefined;
      return {
        label: data.cells[l.cell].name, scale: "y", stroke: color(l.cell) + (thin ? "66" : ""), width: thin ? 1 : 2,
        dash: thin ? (l.failed ? [2, 4] : []) : dash(l.cell), points: { show: l.points.length === 1 || (!thin && l.points.length < 15), size: 5 },
      };
    });
    const axis = {
      stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 },
      values: (u, all) => all.map((v) => (v === null ? "" : short(v))),
    };
    const u = new uPlot({
      width: Math.max(200, figure.clientWidth), height: 320, legend: { show: false },
      cursor: { drag: { x: true, y: true, uni: 30 }, points: { show: false } },
      scales: { x: { time: false, distr: o.logx ? 3 : 1 }, y: { distr: o.logy ? 3 : 1 } },
      axes: [axis, { ...axis, size: 62 }],
      series: [{}, ...series],
      plugins: [tooltip(figure, lines, o)],
    }, align(lines), figure);
    plots.push(u);
  };

  const losses = data.charts.filter((c) => c.name === "valid_loss" || c.name === "loss");
  const others = data.charts.filter((c) => !losses.includes(c));
  let chosen = 0;

  const redraw = () => {
    for (const u of plots) u.destroy();
    plots = [];
    const charts = byId("charts");
    charts.replaceChildren();
    const todo = []; // widths are known when all figures are there
    for (const chart of losses) {
      const figure = element("figure", charts);
      element("figcaption", figure, chart.title + ", nats a token");
      todo.push([figure, chart]);
    }
    if (others.length) {
      const figure = element("figure", charts);
      const select = element("select", element("figcaption", figure));
      others.forEach((c, i) => { const opt = element("option", select, c.title); opt.value = i; });
      select.value = chosen;
      select.setAttribute("aria-label", "diagnostic");
      select.onchange = () => { chosen = +select.value; redraw(); };
      todo.push([figure, others[chosen]]);
    }
    for (const [figure, chart] of todo) draw(figure, chart);
    legend();
  };

  const legend = () => {
    const box = byId("legend");
    box.replaceChildren();
    data.cells.forEach((cell, i) => {
      const b = element("button", box);
      b.type = "button";
      b.setAttribute("aria-pressed", String(!hidden.has(i)));
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("width", "26");
      svg.setAttribute("height", "10");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", "M0 5H26");
      path.setAttribute("stroke", color(i));
      path.setAttribute("stroke-width", "3");
      path.setAttribute("stroke-dasharray", dash(i).join(" "));
      svg.append(path);
      b.append(svg);
      element("span", b, cell.name + (cell.baseline ? " (baseline)" : ""));
      b.onclick = () => { hidden.has(i) ? hidden.delete(i) : hidden.add(i); redraw(); };
    });
  };

  const canSay = (axis) => {
    if (axis === "seconds") return data.charts.some((c) => c.lines.some((l) => l.t.some((t) => t > 0)));
    return axis === "step" || data.cells.every((c) => c[axis] > 0);
  };
  for (const option of [...byId("axis").options]) if (!canSay(option.value)) option.remove();
  byId("controls").hidden = false;
  for (const control of byId("controls").querySelectorAll("select, input")) control.onchange = redraw;
  dark.addEventListener("change", redraw);
  let width = window.innerWidth;
  window.addEventListener("resize", () => { // a phone's toolbar is no change
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    redraw();
  });
  redraw();
})();
