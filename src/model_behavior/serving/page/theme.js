// Theme: light, dark, or that of the system. The choice is kept in this browser.

import { set } from "./dom.js";

const CHOICES = ["system", "light", "dark"];
const SIGNS = { system: "◐", light: "☀", dark: "☾" };

/** Makes a button go round the three themes. */
export function startTheme(button) {
  let chosen = kept();
  const apply = () => {
    set(document.documentElement, { "data-theme": chosen === "system" ? null : chosen });
    button.textContent = SIGNS[chosen];
    set(button, { "aria-label": `Theme: ${chosen}`, title: `Theme: ${chosen}` });
  };
  button.addEventListener("click", () => {
    chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
    keep(chosen);
    apply();
  });
  apply();
}

// A page from a file may have no storage; the theme then lasts as long as the page.
function kept() {
  try {
    const found = localStorage.getItem("theme");
    return CHOICES.includes(found) ? found : "system";
  } catch {
    return "system";
  }
}

function keep(choice) {
  try {
    localStorage.setItem("theme", choice);
  } catch {
    return;
  }
}
