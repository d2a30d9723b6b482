# Four clients, a thread for each; a line is sent when the one before has come back.
require 'socket'

CLIENTS = 4
LINES = 16_000

def converse(client)
  socket = TCPSocket.new('127.0.0.1', Integer(ARGV[0]))
  LINES.times do |number|
    line = "#{client} #{number} #{'x' * (number * 97 % 20_000)}\n"
    socket.write(line)
    raise "the answer to line #{number} differs" unless socket.gets == line
  end
  socket.close_write
  raise 'a line after the end' unless socket.read.empty?
  socket.close
  LINES
end

puts "verified #{Array.new(CLIENTS) { |client| Thread.new { converse(client) } }.sum(&:value)}"
