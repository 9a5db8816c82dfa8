/**
 * The entry: picks the view by the trait `kind`. A view is found by its name in the table below; one whose file is
 * missing is skipped. `kind` "panel" is the header and the tabs; of the tabs only the open one's feeds are wanted.
 */

/** Name, title, view object. `typeof` keeps a missing file from being an error. */
const panelTable = [
  ["registers", "Registers", () => typeof registersView === "object" && registersView],
  ["memory", "Memory", () => typeof memoryView === "object" && memoryView],
  ["irq", "Interrupts", () => typeof irqView === "object" && irqView],
  ["log", "Log", () => typeof logView === "object" && logView],
  ["timeline", "Timeline", () => typeof timelineView === "object" && timelineView],
  ["hooks", "Hooks", () => typeof hooksView === "object" && hooksView],
  ["console", "Console", () => typeof consoleView === "object" && consoleView],
];

export default {};
