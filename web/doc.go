// Package web is the door for people and programs: the REST API of a coordinator, its OpenAPI
// description and the dashboard page. It knows HTTP (who may call what, how much, how errors and
// streams look) and leaves every rule of the business to the Backend that it declares.
//
// routes.go is the table of all routes, each with the role it needs; a request to anything that is
// not in it is refused. New puts the middleware round it. Handlers are plain functions of a request
// struct (call.go) so that little but server.go knows the web framework.
package web
