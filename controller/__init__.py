"""The laptop's side: inventory, planning, transport, fleet, store and the command line."""
