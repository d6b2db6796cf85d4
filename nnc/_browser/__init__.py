"""Page of `nnc demo --browser`, and the server on this computer that provides the page."""
