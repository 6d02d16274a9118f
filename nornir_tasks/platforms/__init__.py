"""One folder a platform, each with the same few files."""
