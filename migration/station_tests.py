"""A pytest plugin: one test for each check of a county's stations (`pytest --extranet-county DIR`)."""
