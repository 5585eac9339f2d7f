<?php
// A child sleeps as long as the request's work takes, as one does that waits for a database.
usleep((int) (1000 * (float) ($_GET['ms'] ?? 0)));
echo 'done';
