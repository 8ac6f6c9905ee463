// Remembers that the cookie notice was clicked away.
function okBar() {
  try { localStorage.setItem("ok_bar", "1"); } catch (e) { /* private window: ask again next time */ }
  var bar = document.getElementById("ck");
  if (bar) bar.style.display = "none";
}
try { if (localStorage.getItem("ok_bar")) okBar(); } catch (e) { /* no storage, the bar stays */ }
