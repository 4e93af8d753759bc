"""Policies: an observation in, a plan and how sure it is out."""
