"""From a source of labelled images to one prepared folder: reading, checking, splitting, digests."""
