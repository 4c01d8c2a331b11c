"""A quicker experiment in the default run."""

SHORTER = {'find("fixed-start")': 'find("boundary-map")'}
