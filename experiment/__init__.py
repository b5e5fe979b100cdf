"""One run: its configuration, its output folder, how it begins, resumes and ends."""
