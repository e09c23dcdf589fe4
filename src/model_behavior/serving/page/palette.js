// Families by colour. The largest ones have a colour of their own; the rest share a neutral one.

export const N_COLOURS = 10;
export const OTHER = "other families";

/** Families, the largest first: [{name, colour (0 to 9, or null), members}]. */
export function arrangeFamilies(models) {
  const members = Map.groupBy(models, (model) => model.family);
  const families = [...members].map(([name, group]) => ({ name, members: group.map((model) => model.name) }));
  families.sort((a, b) => b.members.length - a.members.length || a.name.localeCompare(b.name));
  return families.map((family, index) => ({ ...family, colour: index < N_COLOURS ? index : null }));
}

/** From a family's name to the class that colours it. */
export function colourClasses(families) {
  const classes = new Map(families.map(({ name, colour }) => [name, colourClass(colour)]));
  return (family) => classes.get(family) ?? colourClass(null);
}

/** What the legend shows: the coloured families, and the rest as one entry. */
export function legendEntries(families) {
  const entries = families
    .filter(({ colour }) => colour !== null)
    .map(({ name, colour, members }) => ({ label: name, class: colourClass(colour), members }));
  const rest = families.filter(({ colour }) => colour === null);
  if (rest.length) {
    entries.push({ label: OTHER, class: colourClass(null), members: rest.flatMap((family) => family.members) });
  }
  return entries;
}

function colourClass(colour) {
  return colour === null ? "family-other" : `family-${colour}`;
}
