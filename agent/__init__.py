"""The device's side of fleetmark: one zipapp, standard library only, Python 3.6 and later."""

VERSION = "0.1.0"
