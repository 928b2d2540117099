// Where we are: the path of the page, changed by links without loading anything.

import { signal } from "@preact/signals";

export const path = signal(location.pathname);

/** arrival is pending from a click on a link until the new page's title is there, which then gets the focus: a page may have to load first. */
export const arrival = { pending: false };

export function navigate(to: string): void {
  arrival.pending = location.pathname !== to;
  history.pushState(null, "", to);
  path.value = location.pathname;
  scrollTo(0, 0);
}

addEventListener("popstate", () => { path.value = location.pathname; });

document.addEventListener("click", (event) => {
  const link = (event.target as Element).closest?.("a");
  if (!link || event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (link.origin !== location.origin || link.hasAttribute("download") || link.target || link.pathname.startsWith("/api/") || link.hash) return;
  event.preventDefault();
  navigate(link.pathname + link.search);
});
