"""A copy of a site that can become the site again: written while it serves, verified before it is believed."""
