"""Reports of fitted models as text and as HTML pages, and the statistics of predictions that they show."""
