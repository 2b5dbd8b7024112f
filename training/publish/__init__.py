"""From the folder of a run to a repository on the Hub: assemble, inspect, try as a stranger would, upload."""
