"""Page of `nnc demo --browser`: a server on this computer, and the page that it serves."""
