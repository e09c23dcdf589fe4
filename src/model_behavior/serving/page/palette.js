// Colours of models: by family, where the largest ones have a colour of their own and the rest share a neutral one, or by rating.

export const N_COLOURS = 10;
export const OTHER = "other families";
const N_STEPS = 7; // of the scale of ratings

/** Families, the largest first: [{name, colour (0 to 9, or null), members}]. */
export function arrangeFamilies(models) {
  const members = Map.groupBy(models, (model) => model.family);
  const families = [...members].map(([name, group]) => ({ name, members: group.map((model) => model.name) }));
  families.sort((a, b) => b.members.length - a.members.length || a.name.localeCompare(b.name));
  return families.map((family, index) => ({ ...family, colour: index < N_COLOURS ? index : null }));
}

/** From a model to the class that colours it by its family; those in `fresh`, a set of names, have one of their own. */
export function familyColours(families, fresh = new Set()) {
  const classes = new Map(families.map(({ name, colour }) => [name, colourClass(colour)]));
  return ({ name, family }) => (fresh.has(name) ? "family-fresh" : (classes.get(family) ?? colourClass(null)));
}

/** How ratings are coloured: {least, most, steps (classes, the least first), colourOf(model)}; null without ratings. */
export function ratingScale(models) {
  const ratings = models.map(({ rating }) => rating).filter((rating) => rating !== null && rating !== undefined);
  if (!ratings.length) return null;
  const [least, most] = [Math.min(...ratings), Math.max(...ratings)];
  const step = (rating) => Math.min(Math.floor((N_STEPS * (rating - least)) / (most - least || 1)), N_STEPS - 1);
  const colourOf = ({ rating }) => (rating === null || rating === undefined ? colourClass(null) : `rating-${step(rating)}`);
  return { least, most, steps: Array.from({ length: N_STEPS }, (_, index) => `rating-${index}`), colourOf };
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
