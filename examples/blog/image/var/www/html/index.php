<?php
// The blog: GET shows it (with Accept: application/json as JSON), POST title, text and a picture writes into it.
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);

try {
    $password = trim(file_get_contents(getenv('DB_PASSWORD_FILE')));
    $db = new mysqli(getenv('DB_HOST'), getenv('DB_USER'), $password, getenv('DB_NAME'));
    $db->set_charset('utf8mb4');
} catch (mysqli_sql_exception $error) {
    http_response_code(503);
    exit('the database does not answer: ' . $error->getMessage());
}

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $picture = null;
    if (isset($_FILES['picture']) && $_FILES['picture']['error'] === UPLOAD_ERR_OK) {
        $picture = bin2hex(random_bytes(8));
        if (!move_uploaded_file($_FILES['picture']['tmp_name'], __DIR__ . "/uploads/$picture")) {
            http_response_code(500);
            exit('the picture could not be stored');
        }
    }
    $insert = $db->prepare('INSERT INTO posts (title, text, picture) VALUES (?, ?, ?)');
    $insert->execute([$_POST['title'] ?? '', $_POST['text'] ?? '', $picture]);
    header('Location: /', true, 303);
    exit;
}

$posts = $db->query('SELECT id, title, text, picture, written FROM posts ORDER BY id DESC')->fetch_all(MYSQLI_ASSOC);
if (str_contains($_SERVER['HTTP_ACCEPT'] ?? '', 'application/json')) {
    header('Content-Type: application/json');
    exit(json_encode($posts));
}
$title = htmlspecialchars(getenv('BLOG_TITLE'));
?>
<!doctype html>
<title><?= $title ?></title>
<h1><?= $title ?></h1>
<form method="post" enctype="multipart/form-data">
  <input name="title" required> <textarea name="text"></textarea> <input type="file" name="picture"> <button>Write</button>
</form>
<?php foreach ($posts as $post): ?>
<h2><?= htmlspecialchars($post['title']) ?></h2>
<?php if ($post['picture']): ?><img src="/uploads/<?= $post['picture'] ?>" alt=""><?php endif ?>
<p><?= nl2br(htmlspecialchars($post['text'])) ?></p>
<small><?= $post['written'] ?></small>
<?php endforeach ?>
