"""What widgets leave out for a screen reader: names for sliders' handles, and the main part of a page."""

import anywidget


class Accessible(anywidget.AnyWidget):
    """Gives every handle the label of its slider, of two handles with "from" and "to"; it shows nothing.

    Sliders in a folded part are made when it unfolds, so the page is watched. In the app of Voila, whose page
    has no landmark, the cells become its main part.
    """

    _esm = """
    function name() {
      for (const slider of document.querySelectorAll(".widget-slider")) {
        const label = slider.querySelector(".widget-label")?.textContent;
        const handles = [...slider.querySelectorAll(".noUi-handle")];
        handles.forEach((handle, i) => {
          const said = handles.length === 1 ? label : `${label}, ${i === 0 ? "from" : "to"}`;
          if (handle.getAttribute("aria-label") !== said) handle.setAttribute("aria-label", said);
        });
      }
    }
    function render({ el }) {
      el.hidden = true;
      document.querySelector("#rendered_cells")?.setAttribute("role", "main");
      const watch = new MutationObserver(name);
      watch.observe(document.body, { childList: true, subtree: true });
      name();
      return () => watch.disconnect();
    }
    export default { render };
    """
