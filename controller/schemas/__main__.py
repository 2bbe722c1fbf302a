"""Writes the schemas anew after the records have changed."""

from controller import schemas

schemas.write()
