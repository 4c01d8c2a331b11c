"""A coarser grid in the default run."""

EFFORT = {"diffuscope solve poisson-2d --prior gaussian": "--nodes 11"}
