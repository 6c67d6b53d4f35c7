//! Kills, full disks and changed files: a run is never lost and a number never silently wrong.
