"""Sample devices, one file each, simplest first; installed as ``workbench.devices``."""
