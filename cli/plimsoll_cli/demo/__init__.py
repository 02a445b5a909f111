"""`plimsoll demo`: the whole product on one machine, watched live, judged at the end."""
