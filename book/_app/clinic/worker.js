// Does for the page what takes longer than a blink. Each message asks for one thing and is answered by one.
"use strict";

const JOBS = {
  deletion: ({ model, image, target, map, side }) => deletionTest(model, image, target, map, side),
  forgetting: ({ model, image, target, map }) => forgettingTest(model, image, target, map),
  occlusion: ({ model, image, target }, tell) => occlusion(model, image, target, tell),
};

self.addEventListener("message", ({ data: { id, job, ask } }) => {
  const result = JOBS[job](ask, (share) => self.postMessage({ id, share }));
  self.postMessage({ id, result });
});
