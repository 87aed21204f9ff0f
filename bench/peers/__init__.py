"""neutrino beside other engines, in the same minutes on the same machine. README.md of the folder above says how."""
