// The numbers behind every mark, beside the pointer or the keyboard's focus.
const tip = document.getElementById("tip");
const show = (target, x, y) => {
  tip.textContent = target.dataset.tip;
  tip.style.display = "block";
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 4)) + "px";
  tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18) + "px";
};
const hide = () => { tip.style.display = "none"; };
document.addEventListener("pointermove", (event) => {
  const target = event.target.closest("[data-tip]");
  if (target) show(target, event.clientX, event.clientY); else hide();
});
document.addEventListener("focusin", (event) => {
  const target = event.target.closest("[data-tip]");
  if (target) { const box = target.getBoundingClientRect(); show(target, box.left, box.bottom); }
});
document.addEventListener("focusout", hide);
