// Runs before the first paint: a chosen theme must not flash the other one.
// A classic script, because modules wait for the document.
(() => {
  try {
    const theme = localStorage.getItem("kaizen.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; the system's preference then decides.
  }
})();
