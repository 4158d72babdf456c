"""Programs for those who work on the repository; no part of what is installed."""
