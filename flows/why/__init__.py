"""Why a model is what it is: the chain from a file's bytes to the commit, link by link, each checked."""
