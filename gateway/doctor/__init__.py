"""Whether a site is fit to serve, running or not: everything that can be known from its directory, this machine and its peers."""
