"""One file per source of labelled images; the file's name is the source's name in the settings."""
