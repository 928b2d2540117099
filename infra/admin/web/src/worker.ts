// The service worker: shows push messages, and opens the dashboard when one is clicked. It caches nothing.

/// <reference lib="webworker" />
declare const self: ServiceWorkerGlobalScope;

interface Push { title: string; body: string; tag: string; url: string }

self.addEventListener("install", () => { void self.skipWaiting(); });
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  const message: Push = event.data?.json() ?? { title: "tablekeeper", body: "", tag: "tablekeeper", url: "/" };
  event.waitUntil(self.registration.showNotification(message.title, { body: message.body, tag: message.tag, icon: "/icon.svg", data: message.url }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open());
});

async function open(): Promise<void> {
  const windows = await self.clients.matchAll({ type: "window" });
  if (windows[0]) { await windows[0].focus(); return; }
  await self.clients.openWindow("/alerts");
}

export {};
