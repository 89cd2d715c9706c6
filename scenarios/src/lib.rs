//! Where broker, world, checker and reports meet: scenario files, runner, nemesis, command line.
