"""A picture to paint on, square by square, with a pointer, a finger or the keys."""

import anywidget
import traitlets

from hemafl_book.clinic.explorer.covering import GRID


class Painter(anywidget.AnyWidget):
    """Shows ``picture``, a data URI; ``squares`` are the numbers of those painted, row by row."""

    picture = traitlets.Unicode("").tag(sync=True)
    squares = traitlets.List(traitlets.Int()).tag(sync=True)
    side = traitlets.Int(GRID).tag(sync=True)

    _esm = """
    const PIXELS = 384;
    const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const HOW = "Draw over the picture with a pointer or a finger. With the keys: arrows move, space " +
      "paints or wipes a square, and with Shift the arrows paint as they go.";

    function render({ model, el }) {
      const side = model.get("side");
      const step = PIXELS / side;
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = PIXELS;
      Object.assign(canvas.style, { width: "min(100%, 24rem)", touchAction: "none", cursor: "crosshair" });
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "application");
      canvas.setAttribute("aria-label", `Picture to paint places out of. ${HOW}`);
      const told = document.createElement("p");
      told.setAttribute("role", "status");
      const hint = document.createElement("p");
      hint.textContent = HOW;
      el.append(hint, canvas, told);
      const image = new Image();
      let at = [side >> 1, side >> 1];
      let painted = new Set(model.get("squares"));
      let painting = null;

      function draw() {
        const context = canvas.getContext("2d");
        context.clearRect(0, 0, PIXELS, PIXELS);
        if (image.complete && image.naturalWidth > 0) context.drawImage(image, 0, 0, PIXELS, PIXELS);
        for (const number of painted) {
          const [x, y] = [(number % side) * step, Math.floor(number / side) * step];
          context.fillStyle = "#8a8a8a";
          context.fillRect(x, y, step, step);
          context.strokeStyle = "#fff";
          context.lineWidth = 2;
          context.beginPath();
          context.moveTo(x, y + step);
          context.lineTo(x + step, y);
          context.stroke();
        }
        if (document.activeElement !== canvas) return;
        for (const [colour, width] of [["#fff", 5], ["#111", 2]]) {
          context.strokeStyle = colour;
          context.lineWidth = width;
          context.strokeRect(at[1] * step + 1, at[0] * step + 1, step - 2, step - 2);
        }
      }
      function say() {
        const here = painted.has(at[0] * side + at[1]) ? "painted" : "free";
        told.textContent = `Row ${at[0] + 1}, column ${at[1] + 1}: ${here}. ` +
          `${painted.size} of ${side * side} squares are painted.`;
      }
      function keep() {
        model.set("squares", [...painted].sort((a, b) => a - b));
        model.save_changes();
      }
      function paint(on) {
        const number = at[0] * side + at[1];
        if (on) painted.add(number);
        else painted.delete(number);
        draw();
        say();
      }
      function move(event) {
        const box = canvas.getBoundingClientRect();
        const within = (square) => Math.min(side - 1, Math.max(0, square));
        const place = (offset, length) => within(Math.floor((offset / length) * side));
        at = [place(event.clientY - box.top, box.height), place(event.clientX - box.left, box.width)];
      }
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        move(event);
        painting = !painted.has(at[0] * side + at[1]);
        paint(painting);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (painting === null) return;
        move(event);
        paint(painting);
      });
      for (const end of ["pointerup", "pointercancel"]) {
        canvas.addEventListener(end, () => {
          if (painting === null) return;
          painting = null;
          keep();
        });
      }
      canvas.addEventListener("keydown", (event) => {
        const by = MOVES[event.key];
        if (!by && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();    // JupyterLab has keys of its own
        if (by) at = at.map((place, i) => Math.min(side - 1, Math.max(0, place + by[i])));
        if (!by) paint(!painted.has(at[0] * side + at[1]));
        else if (event.shiftKey) paint(true);
        if (!by || event.shiftKey) keep();
        draw();
        say();
      });
      canvas.addEventListener("focus", draw);
      canvas.addEventListener("blur", draw);
      image.addEventListener("load", draw);
      const load = () => { image.src = model.get("picture"); };
      const hear = () => {
        painted = new Set(model.get("squares"));
        draw();
        say();
      };
      model.on("change:picture", load);
      model.on("change:squares", hear);
      load();
      say();
      return () => {
        model.off("change:picture", load);
        model.off("change:squares", hear);
      };
    }
    export default { render };
    """
