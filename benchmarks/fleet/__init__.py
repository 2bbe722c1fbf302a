"""What a fleet costs the controller: simulated devices over real SSH, fleetmark beside the tools that people use for it."""
