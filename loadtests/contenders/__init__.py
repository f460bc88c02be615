"""What the bench measures, one file for each kind of work. `catalogue` names them; a contender measures by itself."""
